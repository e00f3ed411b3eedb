"""Why a file is as the journal says 文件状态原因: codes with values, told in Chinese and English.

Whoever takes files in, refuses or takes them back gives a code and its values; pages, alarms and
messages tell it in the reader's language. What a decoder says of a file it cannot read stays as the
decoder says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Code → text in Chinese and in English, with places for the values.
TEXTS: Mapping[str, tuple[str, str]] = {
    "unknown_format": (
        "从第 0 字节起的内容为 {head}：不是任何已知格式，本目录应为 {sender} 的 {format}",
        "content begins at byte 0 with {head}: no known raw format, but the folder is for {format}"
        " of {sender}",
    ),
    "empty_file": (
        "文件为空：不是任何已知格式，本目录应为 {sender} 的 {format}",
        "the file is empty: no known raw format, but the folder is for {format} of {sender}",
    ),
    "unreadable": ("文件无法读取：{detail}", "{detail}"),
    "header_unreadable": (
        "文件头不能按 {format} 读取：{detail}",
        "its header cannot be read as {format}: {detail}",
    ),
    "same_content": ("内容与 {file_id} 相同", "same content as {file_id}"),
    "name_used": (
        "文件名 {name} 已被内容不同且在用的 {file_id} 使用：若两个文件都正确，"
        "请 {source_id} 换名重送本文件",
        "the name {name} was used before, by {file_id}, which has other content and is in use: if"
        " both files are right, {source_id} has to send this one under a new name",
    ),
    "misdelivered": (
        "内容为 {delivered} 的 {found}，本目录应为 {sender} 的 {format}",
        "content is {found} of {delivered}, but the folder is for {format} of {sender}",
    ),
    "misdelivered_unnamed": (
        "内容为 {found}（未写明来源），本目录应为 {sender} 的 {format}",
        "content is {found} of an unnamed source, but the folder is for {format} of {sender}",
    ),
    "misnamed": (
        "{source_id} 的文件名应符合 {pattern}",
        "files of {source_id} are named like {pattern}",
    ),
    "no_number": (
        "{source_id} 的文件应有序号：文件名中序号处为 '{text}'",
        "files of {source_id} are numbered: the name has '{text}' where its number should be",
    ),
    "no_day": (
        "{source_id} 的文件应有日期：文件名中日期处为 '{text}'",
        "files of {source_id} are numbered: the name has '{text}' where its day should be",
    ),
    "number_out_of_range": (
        "{source_id} 的文件序号应为 {first} 至 {last}：本文件为 {number}",
        "files of {source_id} are numbered: its number is {number}, not one from {first} to {last}",
    ),
    "incomplete": (
        "不完整：文件缺少 {lacks}，可能丢失话单；请 {source_id} 换名重送完整文件",
        "incomplete: the file lacks {lacks}, so records may be missing; ask {source_id} to send it"
        " whole under a new name",
    ),
    "undecodable": (
        "不能按 {format} 解码：{detail}；原件在 {path}，更正后可换名重送",
        "it cannot be decoded as {format}: {detail}; its original is {path}, a corrected file may"
        " be sent under a new name",
    ),
    "unfit": (
        "不适合预处理：{findings_zh}；原件在 {path}，更正后可换名重送",
        "not fit for mediation: {findings_en}; its original is {path}, a corrected file may be"
        " sent under a new name",
    ),
    "rolled_back": ("由 {who} 回退：{why}", "rolled back by {who}: {why}"),
    "reloaded": ("由 {who} 重新入库：{why}", "loaded again by {who}: {why}"),
    "reloaded_incomplete": (
        "不完整：文件缺少 {lacks}，可能丢失话单；由 {who} 重新入库：{why}",
        "incomplete: the file lacks {lacks}, so records may be missing; loaded again by {who}:"
        " {why}",
    ),
    "told": ("{text}", "{text}"),
}
# Files that were taken in without their end.
INCOMPLETE = ("incomplete", "reloaded_incomplete")


@dataclass(frozen=True)
class FileReason:
    """Why a file is as it is: a code of `TEXTS`, and what stands in the places of its text."""

    code: str
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def zh(self) -> str:
        """The reason in Chinese."""
        return TEXTS[self.code][0].format_map(self.values)

    @property
    def en(self) -> str:
        """The reason in English."""
        return TEXTS[self.code][1].format_map(self.values)


def reason_of(code: str | None, values: Mapping[str, str] | None) -> FileReason | None:
    """The reason that the journal keeps of a file; None if it keeps none."""
    return None if code is None else FileReason(code, values or {})
