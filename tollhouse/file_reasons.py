"""Why a file is as the journal says 文件状态原因: codes with values, told in Chinese and English.

Whoever takes files in, reads them, refuses them or takes them back gives a code and its values;
pages, alarms and messages tell it in the reader's language. A value may be a reason of its own, as
what a file lacks at its end is. What other programs say (a disk, a library) stays as they say it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
    "no_sender_header": (
        "{name} 在第 0 字节处没有写明发送方的 {what} 文件头：请发送方重送，或更正数据源的格式",
        "{name} has no {what} header with a sender at byte 0; ask the sender for the file, or set"
        " the right format of the source",
    ),
    "no_root_element": (
        "{name} 不是 {what} 文件：第 0 字节处为 {begins}，不是此类文件的标识与长度；请发送方重送",
        "{name} is no {what} file: at byte 0 stands {begins}, no identifier of such a file with its"
        " length; ask the sender for the file",
    ),
    "no_charging_header": (
        "{name} 在第 0 字节处没有 TS 32.297 文件头：第 {first} 与第 {second} 字节处的长度不一致；"
        "请发送方重送",
        "{name} has no file header of TS 32.297 at byte 0: the lengths at bytes {first} and"
        " {second} do not agree; ask the sender for the file",
    ),
    "no_capture": (
        "{name} 不是流记录的 pcap 抓包：第 0 字节处不是经典 pcap 文件头，或首个 UDP 报文不是"
        " NetFlow v5、v9 或 IPFIX；pcapng 请用 `editcap -F pcap` 转换，且只抓采集器端口",
        "{name} is no pcap capture of flow exports: at byte 0 stands no head of a classic pcap"
        " file, or its first UDP datagram is no NetFlow v5, v9 or IPFIX; convert pcapng with"
        " `editcap -F pcap`, and capture the collector's port only",
    ),
    "no_ipfix": (
        "{name} 不是 IPFIX 文件：第 0 字节处没有 IPFIX 消息头（版本 10、长度、导出时间）；"
        "请更正数据源的格式",
        "{name} is no IPFIX file: at byte 0 stands no head of an IPFIX message (version 10, a"
        " length, a time of export); set the right format of the source",
    ),
    "no_radius_detail": (
        "{name} 不是 RADIUS 计费 detail 文件：第 0 字节处没有形如 `Mon Oct  5 08:30:00 2026`"
        " 且下有缩进属性的行；请更正数据源的格式",
        "{name} is no RADIUS detail file of accounting: at byte 0 there is no line like `Mon Oct  5"
        " 08:30:00 2026` with indented attributes below; set the right format of the source",
    ),
    "not_of_layout": (
        "{name} 开头不是 {layout} 文件（第 1 行，第 0 字节起）：请更正数据源的格式或版式",
        "{name} does not begin as a file of {layout} (line 1 at byte 0): correct the source's"
        " format or the layout",
    ),
    "no_header_number": (
        "{name} 的文件头在第 {at} 字节处的序号为 '{text}'，不是数字：请更正文件或版式",
        "the header of {name} gives the sequence number '{text}' at byte {at}, which is none:"
        " correct the file or the layout",
    ),
    "no_header_time": (
        "{name} 的文件头在第 {at} 字节处的生成时间为 {text}，不是时间：请更正文件或版式",
        "the header of {name} says at byte {at} that it was created at {text}, which is no time:"
        " correct the file or the layout",
    ),
    "miscounted_lines": (
        "自第 {at} 字节起的 {lines} 行完好，却得到 {records} 条 {layout} 话单：请报告该文件",
        "{lines} sound lines from byte {at} gave {records} records of {layout}: report the file",
    ),
    "shorter": (
        "{name} 止于第 {at} 字节，采集时有 {size} 字节：请重新采集",
        "{name} ends at byte {at}, but had {size} bytes when it was collected: collect it again",
    ),
    "original_differs": (
        "归档原件 {path} 与采集时不同：现有 {octets} 字节，SHA-256 为 {digest}；"
        "采集时为 {size} 字节，{sha256}",
        "the archived original {path} is not what was collected: it has {octets} octets with"
        " SHA-256 {digest}, but {size} octets with {sha256} were taken in",
    ),
    "original_unavailable": (
        "归档原件 {path} 现在无法读取：{detail}",
        "the archived original {path} cannot be read now: {detail}",
    ),
    "original_unreadable": (
        "归档原件 {path} 无法读取：{detail}",
        "the archived original {path} cannot be read: {detail}",
    ),
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
    "lacks_declared": (
        "文件首元素声明的最后 {octets} 字节",
        "the last {octets} octets its first element declares",
    ),
    "lacks_octets": (
        "文件头声明的 {length} 字节中的 {octets} 字节",
        "{octets} of the {length} octets its header declares",
    ),
    "lacks_audit": ("审计控制信息", "its audit control information"),
    "lacks_count": ("话单条数", "its number of call events"),
    "lacks_empty_line": ("末条话单后的空行", "the empty line behind its last record"),
    "lacks_trailer": ("尾记录（{mark}）", "its trailer ({mark})"),
    "lacks_feed_of_trailer": ("尾记录后的换行符", "the line feed behind its trailer"),
    "lacks_feed_of_record": ("末条话单后的换行符", "the line feed behind its last record"),
}
# Files that were taken in without their end.
INCOMPLETE = ("incomplete", "reloaded_incomplete")


@dataclass(frozen=True)
class FileReason:
    """Why a file is as it is: a code of `TEXTS`, and what stands in the places of its text."""

    code: str
    values: Mapping[str, str | FileReason] = field(default_factory=dict)

    @property
    def zh(self) -> str:
        """The reason in Chinese."""
        return self._told(0)

    @property
    def en(self) -> str:
        """The reason in English."""
        return self._told(1)

    def _told(self, language: int) -> str:
        return TEXTS[self.code][language].format_map(
            {
                name: value._told(language) if isinstance(value, FileReason) else value
                for name, value in self.values.items()
            }
        )

    def document(self) -> dict[str, Any]:
        """The values as a JSON document that every database holds."""
        return {
            name: {"code": value.code, "values": value.document()}
            if isinstance(value, FileReason)
            else _storable(value)
            for name, value in self.values.items()
        }


def _storable(text: str) -> str:
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def reason_of(code: str | None, document: Mapping[str, Any] | None) -> FileReason | None:
    """The reason that the journal keeps of a file; None if it keeps none."""
    return None if code is None else _reason(code, document or {})


def _reason(code: str, document: Mapping[str, Any]) -> FileReason:
    return FileReason(
        code,
        {
            name: _reason(value["code"], value["values"]) if isinstance(value, Mapping) else value
            for name, value in document.items()
        },
    )
