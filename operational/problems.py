"""Errors that people meet: what every channel answers, in Chinese and English."""

from __future__ import annotations

from operational.i18n import Translate, has_message, translator


class Problem(Exception):
    """A request that is not carried out, for a reason the reader can act on.

    `code` names the message ``problem.<code>`` in messages.yaml, `values` fill its places.
    """

    def __init__(self, code: str, **values: object) -> None:
        self.code = code
        self.values = values
        super().__init__(self.text(translator("en")))

    def text(self, translate: Translate) -> str:
        """The problem in the reader's language, states by their names."""
        words = {name: self._word(translate, name, value) for name, value in self.values.items()}
        return translate(f"problem.{self.code}", **words)

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
