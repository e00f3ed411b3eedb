"""Errors that people meet: what every channel answers, in Chinese and English."""

from __future__ import annotations

from collections.abc import Mapping

from operational.i18n import Translate, field_label, has_message, translator

# Problem → those of its values that name fields.
_FIELD_NAMES = {
    "bad_parameters": ("names",), "unknown_fields": ("names", "known"),
    "day_out_of_range": ("names",),
    "set_and_replaced": ("field",), "bill_does_not_add_up": ("figure",),
}  # fmt: skip


class Problem(Exception):
    """A request that is not carried out, for a reason the reader can act on.

    `code` names the message ``problem.<code>`` in messages.yaml, `values` fill its places.
    """

    def __init__(self, code: str, **values: object) -> None:
        self.code = code
        self.values = values
        super().__init__(self.text(translator("en")))

    def text(self, translate: Translate) -> str:
        """The problem in the reader's language: states by their words, fields by their names."""
        return self._filled(translate, self.values)

    def page_text(self, translate: Translate) -> str:
        """The problem as a page tells it: fields go by the labels they have there."""
        named = _FIELD_NAMES.get(self.code, ())
        return self._filled(
            translate,
            {
                name: self._labels(translate, value) if name in named else value
                for name, value in self.values.items()
            },
        )

    def _filled(self, translate: Translate, values: Mapping[str, object]) -> str:
        words = {name: self._word(translate, name, value) for name, value in values.items()}
        return translate(f"problem.{self.code}", **words)

    @staticmethod
    def _labels(translate: Translate, value: object) -> object:
        if isinstance(value, (list, tuple)):
            return [field_label(translate, str(item)) for item in value]
        return field_label(translate, str(value))

    @staticmethod
    def _word(translate: Translate, name: str, value: object) -> object:
        if isinstance(value, (list, tuple)):
            words = [str(Problem._word(translate, name, item)) for item in value]
            return ", ".join(words) or translate("problem.none")
        if name.endswith("state") and has_message(f"state.{value}"):
            return translate(f"state.{value}")
        return value


class NotFoundError(Problem):
    """There is no such thing, or it is not for this user to see."""


class ConflictError(Problem):
    """The request is well formed but the state of things does not allow it; says what does."""


class InvalidRequestError(Problem):
    """The request itself is wrong; the message says what is right."""


class ForbiddenError(Problem):
    """The user's role does not include this; the message names the roles that do."""
