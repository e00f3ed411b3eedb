"""Why a file or record is as it is 文件与话单原因: codes with values, told in both languages.

Whoever takes files in, reads them, refuses them or takes them back gives a code and its values;
pages, alarms and messages tell it in the reader's language. A value may be a reason of its own, as
what a file lacks at its end is. What other programs say (a disk, a library) stays as they say it.
"""

from __future__ import annotations

import json
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
        "不完整：文件缺少{lacks}，可能丢失话单；请 {source_id} 换名重送完整文件",
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
        "不完整：文件缺少{lacks}，可能丢失话单；由 {who} 重新入库：{why}",
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
    # Of records: where one is, and what is wrong with it.
    "record_at": ("第 {at} 字节处的记录：{why}", "record at byte {at}: {why}"),
    "line_at": ("第 {line} 行（第 {at} 字节处）：{why}", "line {line} at byte {at}: {why}"),
    "both": ("{first}；{then}", "{first}; {then}"),
    "counted_definite": (
        "{why}（按定长计，自 {at} 起）",
        "{why} (counted with definite lengths, from {at})",
    ),
    "from_to": ("{least} 至 {most}", "{least} to {most}"),
    "the_record": ("该记录", "the record"),
    "item_of": ("{name} 的一项", "an item of {name}"),
    "ber_at": ("第 {at} 字节处{fault}", "{fault} at byte {at}"),
    "ber_at_of": ("{what}的第 {at} 字节处{fault}", "{fault} at byte {at} of {what}"),
    "ber_overrun": (
        "有元素超出其所在结构的末尾",
        "an element runs past the end of what holds it",
    ),
    "ber_indefinite": (
        "有不允许的不定长度 [8.1.3.6]",
        "an indefinite length [8.1.3.6] where none may stand",
    ),
    "ber_long_length": (
        "有超过 4 字节的长度 [8.1.3.5]",
        "a length of more than 4 octets [8.1.3.5]",
    ),
    "ber_long_tag": ("有超过 3 字节的标签 [8.1.2.4]", "a tag of more than 3 octets [8.1.2.4]"),
    "ber_stray_end": (
        "有不属于不定长度的内容结束标记 [8.1.5]",
        "an end-of-contents element [8.1.5] without an indefinite length",
    ),
    "ber_too_many": (
        "同一层超过 {most} 个元素，或层次过多",
        "more than {most} elements on one level, or too many levels",
    ),
    "file_ends_before": (
        "文件在本记录结束前 {octets} 字节处中断",
        "the file ends {octets} octets before the end of this record",
    ),
    "file_ends_inside": ("文件在本记录内中断", "the file ends inside this record"),
    "no_element": (
        "此处读不出元素的标识与长度",
        "no identifier and length of an element can be read here",
    ),
    "misplaced_element": (
        "{what} 文件中不应有元素 {tag}",
        "an element {tag} that has no place in a {what} file",
    ),
    "overlong_element": (
        "其长度 {octets} 字节超出后续内容",
        "its length of {octets} octets runs past what follows it",
    ),
    "not_followed": ("其后不是本文件的元素", "what follows it is no element of the file"),
    "twice": ("{name} 在{what}中出现两次", "{name} stands twice in {what}"),
    "misshapen": (
        "{what}中值始于第 {at} 字节的元素应为值却是结构，或相反",
        "the element with its value at byte {at} of {what} is constructed where a value is"
        " expected, or the reverse",
    ),
    "not_an_item": (
        "{name} 中第 {at} 字节前的标签 0x{tag} 不是其各项的标签",
        "tag 0x{tag} before byte {at} of {name} is not that of its items",
    ),
    "no_quantity": (
        "{name}（第 {at} 字节处，{octets} 字节）不是话单可能的数量",
        "{name} at byte {at} of {octets} octets is no quantity a record can have",
    ),
    "other_length": (
        "{name}（第 {at} 字节处）有 {octets} 字节，应为 {least} 至 {most} 字节",
        "{name} at byte {at} has {octets} octets, not {least} to {most}",
    ),
    "not_printable": (
        "{name}（第 {at} 字节处）不是可打印文本",
        "{name} at byte {at} is not printable text",
    ),
    "no_address": ("{name}（第 {at} 字节处）不是 IP 地址", "{name} at byte {at} is no IP address"),
    "no_time": (
        "{name}（第 {at} 字节处）不是时间：{octets}",
        "{name} at byte {at} is no time: {octets}",
    ),
    "shorter_than_flags": (
        "{name}（第 {at} 字节处）短于其标志所示",
        "{name} at byte {at} is shorter than its flags say",
    ),
    "ends_before_start": ("会话早于其开始而结束", "the session ends before it starts"),
    "open_quote": (
        "有引号字段未在本行结束",
        "a quoted field that does not end in this line",
    ),
    "odd_quote": (
        "字段内有未双写的引号",
        "a quote inside a field that is not doubled",
    ),
    "no_record_tag": (
        "第 {at} 字节处的标签 0x{tag} 不是 TS 32.298 任何记录的标签",
        "tag 0x{tag} at byte {at} is that of no record of TS 32.298",
    ),
    "other_record_type": (
        "recordType {number} 不是 {kind} 的（{expected}）",
        "recordType {number} is not that of a {kind} ({expected})",
    ),
    "ends_in_header": (
        "文件在本记录的记录头内中断",
        "the file ends inside this record's header",
    ),
    "wrong_header_length": ("记录头中的长度有误", "the length in the record header is wrong"),
    "unread_until_next": (
        "至下一条记录前的 {octets} 字节无法读取",
        "{octets} octets up to the next record cannot be read",
    ),
    "unread_as_searched": (
        "至搜索范围末尾的 {octets} 字节无法读取",
        "{octets} octets up to the end of what was searched cannot be read",
    ),
    "other_encoding": (
        "记录头写明编码 {encoding}，只能读取 {readable}（BER）",
        "its header says encoding {encoding}, and only {readable} (BER) can be read",
    ),
    "not_one_element": (
        "记录不是一个长度如记录头所写的 BER 元素",
        "the record is not one BER element of the length its header says",
    ),
    "no_packet": (
        "此处读不出抓包中的报文头",
        "no head of a packet of a capture can be read here",
    ),
    "fragment": (
        "IP 数据报的分片；分片不重组",
        "a fragment of an IP datagram; fragments are not put together",
    ),
    "packet_undecodable": (
        "报文无法拆解（{detail}）",
        "the packet cannot be taken apart ({detail})",
    ),
    "datagram_cut": (
        "抓包截断了本数据报；请抓完整报文",
        "the capture cut this datagram off; capture whole packets",
    ),
    "no_message": (
        "至下一条消息前的字节不是 IPFIX 消息",
        "the octets up to the next message are no IPFIX message",
    ),
    "no_export": (
        "不是 NetFlow v5、v9 或 IPFIX 的导出消息；只抓采集器端口",
        "no export message of NetFlow v5, v9 or IPFIX; capture the collector's port only",
    ),
    "message_undecodable": (
        "消息无法拆解（{detail}）",
        "the message cannot be taken apart ({detail})",
    ),
    "odd_flow": (
        "有流记录的值不可能成立（{detail}）",
        "a flow has values that cannot be ({detail})",
    ),
    "no_template": (
        "有流记录的模板未在其之前发送",
        "flows whose template was not sent before them",
    ),
    "message_cut": (
        "消息在集合内中断，或流记录少于其声明",
        "the message ends inside a set or has fewer flows than it declares",
    ),
    "no_empty_line": (
        "文件末尾没有本话单后的空行",
        "the file ends without the empty line behind this record",
    ),
    "not_attributes": (
        "不是时间及其下各行形如 `Name = value` 的属性",
        "not a time and attributes like `Name = value` in lines below it",
    ),
    "no_status_type": (
        "没有 Acct-Status-Type：不是计费话单",
        "no Acct-Status-Type: this is no accounting record",
    ),
    "overlong_line": ("行长超过 {most} 字节", "a line longer than {most} bytes"),
    "not_text": ("不是 {encoding} 文本", "not {encoding} text"),
    "control_character": ("含控制字符", "a control character inside"),
    "empty_line": ("空行", "an empty line"),
    "other_kind": ("不是 '{kind}' 类的行", "a line of another kind than '{kind}'"),
    "fields_instead": ("有 {found} 个字段，应为 {wanted}", "{found} fields instead of {wanted}"),
    "octets_instead": ("有 {found} 字节，应为 {wanted}", "{found} bytes instead of {wanted}"),
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

    def kept(self) -> str:
        """The reason as the text that a decoded record keeps it as; `kept_reason` reads it."""
        whole = {"code": self.code, "values": self.document()}
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))

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


def kept_reason(text: str | None) -> FileReason | None:
    """The reason that a decoded record keeps, None if it keeps none."""
    if not text:
        return None
    whole = json.loads(text)
    return _reason(whole["code"], whole["values"])


def _reason(code: str, document: Mapping[str, Any]) -> FileReason:
    return FileReason(
        code,
        {
            name: _reason(value["code"], value["values"]) if isinstance(value, Mapping) else value
            for name, value in document.items()
        },
    )
