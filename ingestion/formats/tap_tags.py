"""The elements of TAP3 (GSMA TD.57, releases 3.10 to 3.12), by their APPLICATION tag numbers.

Numbers only: which element of a call event becomes which field. The names of fields are ours where
two elements of the same number stand in different places. Chapter 6 of TD.57 has the definition of
each number; those of 3.10 and 3.11 are the same where an element exists in all three.
"""

from __future__ import annotations

from ingestion.formats.ber_stream import Layout, application

TRANSFER_BATCH, NOTIFICATION, CALL_EVENTS = 1, 2, 3
BATCH_CONTROL, ACCOUNTING, NETWORK_INFO, VAS_INFO, MESSAGE_INFO, AUDIT_CONTROL = 4, 5, 6, 7, 8, 15

# Call events (TD.57 chapter 3) and what their rows are called.
CALL_EVENT_NAMES = {
    9: "mobileOriginatedCall",
    10: "mobileTerminatedCall",
    11: "supplServiceEvent",
    12: "serviceCentreUsage",
    14: "gprsCall",
    17: "contentTransaction",
    297: "locationService",
    433: "messagingEvent",
    434: "mobileSession",
}

# Header of a batch or a notification.
SENDER, FILE_SEQUENCE, FILE_CREATED = 196, 109, 108
LOCAL_TIME, UTC_OFFSET, UTC_OFFSET_CODE = 16, 231, 232
CALL_EVENT_COUNT = 43
HEADER_NUMBERS = (196, 182, 109, 108, 227, 107, 201, 189, 110, 181)
HEADER_LISTS = (108, 227, 107, 162)  # of these, the constructed ones

# Network information: the tables behind codes.
OFFSET_TABLE, OFFSET_ENTRY = 234, 233
ENTITY_TABLE, ENTITY_ENTRY, ENTITY_CODE, ENTITY_TYPE, ENTITY_ID = 188, 183, 184, 186, 400
GATEWAY_TYPES = frozenset({3, 7})  # GGSN, PDN gateway

# Elements with fields in them.
_HOLDERS = (
    147, 153, 427, 430, 199, 286, 254, 89, 41, 44, 138, 113, 156, 429, 38, 39, 36, 426, 219,
    206, 74, 191, 193, 88, 192,  # supplementary services, message centre
    114, 115, 116, 117, 118, 185, 121, 260,  # packet data
    304, 324, 310, 309, 335, 328, 327, 285, 352, 300, 302, 323,  # content
    298, 299, 362, 367, 370, 372, 373, 374, 375, 382, 371, 383, 384,  # location
    436, 443, 447, 450,  # messaging, sessions
)  # fmt: skip

# Field -> what holds it and itself; the holder is a call event where it is one.
_FIELDS = {
    "imsi_sim": (199, 129), "msisdn_sim": (199, 152),
    "imsi_gsm": (286, 129), "msisdn_gsm": (286, 152),
    "imsi_party": (436, 129), "msisdn_party": (436, 152), "imei_party": (436, 128),
    "min": (254, 146), "mdn": (254, 253), "public_user_party": (436, 446),
    "imei": (429, 128),
    "called_number": (89, 407), "dialled_digits": (89, 279), "sms_destination": (89, 419),
    "calling_number": (41, 405), "sms_originator": (41, 425), "third_party": (219, 403),
    "started_call": (44, 16), "offset_call": (44, 232),
    "duration_mo": (147, 223), "duration_mt": (153, 223), "duration_gprs": (114, 223),
    "duration_session": (434, 223),
    "cause_mo": (147, 58), "cause_mt": (153, 58), "cause_gprs": (114, 58),
    "cause_session": (434, 58),
    "entity_call": (156, 184), "reference_call": (156, 45), "area_call": (156, 136),
    "cell_call": (156, 59), "network": (113, 195),
    "teleservice": (426, 218), "bearer_service": (426, 40),
    "suppl_service_mo": (9, 209), "suppl_service": (206, 209), "suppl_action": (206, 208),
    "started_charging": (74, 16), "offset_charging": (74, 232),
    "party_status": (191, 67), "non_charged_number": (191, 402),
    "network_scu": (12, 195), "entity_scu": (12, 184),
    "started_deposit": (88, 16), "offset_deposit": (88, 232),
    "apn": (116, 261), "entities_gprs": (185, 184), "area_gprs": (118, 136), "cell_gprs": (118, 59),
    "incoming_gprs": (121, 250), "outgoing_gprs": (121, 251),
    "partial_type": (114, 166), "charging_id": (114, 72),
    "started_context": (260, 16), "offset_context": (260, 232),
    "started_order": (300, 16), "offset_order": (300, 232), "duration_content": (304, 416),
    "party_id": (309, 287), "equipment": (323, 290),
    "provider_name": (335, 334), "provider_id": (327, 292),
    "content_code": (352, 336), "transaction_id": (352, 341),
    "incoming_content": (352, 250), "outgoing_content": (352, 251),
    "entity_location": (297, 184), "reference_location": (297, 45),
    "tracking_id": (362, 364), "tracked_id": (372, 364), "lcs_provider_id": (375, 292),
    "started_lcs": (384, 16), "offset_lcs": (384, 232),
    "messaging_service": (433, 439), "session_service": (434, 440),
    "event_messaging": (433, 435), "event_session": (434, 435),
    "area_messaging": (433, 136), "cell_messaging": (433, 59),
    "area_session": (434, 136), "cell_session": (434, 59),
    "started_service": (447, 16), "offset_service": (447, 232),
    "non_charged_party": (443, 444), "non_charged_user": (443, 445),
    "requested_number": (450, 451), "requested_user": (450, 452),
}  # fmt: skip

# The numbers of TD.57 release 3.12: ranges, last included. Others are counted as unknown.
_ASSIGNED = (
    (1, 6), (8, 12), (14, 17), (36, 46), (55, 59), (62, 76), (79, 80), (87, 92), (94, 96), (98, 98),
    (101, 101), (103, 111), (113, 118), (121, 123), (128, 129), (133, 133), (135, 136), (138, 138),
    (141, 147), (152, 153), (156, 156), (159, 159), (162, 167), (169, 170), (181, 186), (188, 189),
    (191, 193), (195, 196), (198, 201), (204, 204), (206, 206), (208, 219), (223, 223), (225, 228),
    (231, 234), (244, 245), (250, 251), (253, 256), (258, 262), (279, 281), (285, 295), (297, 305),
    (309, 311), (313, 315), (320, 324), (327, 398), (400, 400), (402, 405), (407, 407), (410, 452),
)  # fmt: skip


def _both(numbers: tuple[int, ...]) -> frozenset[int]:
    return frozenset(
        application(number, is_constructed=is_constructed)
        for number in numbers
        for is_constructed in (False, True)
    )


def constructed(*numbers: int) -> frozenset[int]:
    """The identifiers of constructed elements of these numbers."""
    return frozenset(application(number, is_constructed=True) for number in numbers)


def primitive(*numbers: int) -> frozenset[int]:
    """The identifiers of primitive elements of these numbers."""
    return frozenset(application(number, is_constructed=False) for number in numbers)


_PARTS = (BATCH_CONTROL, ACCOUNTING, NETWORK_INFO, VAS_INFO, MESSAGE_INFO, AUDIT_CONTROL)
BATCH = Layout(
    what="TAP3",
    roots=constructed(TRANSFER_BATCH),
    lists=constructed(CALL_EVENTS),
    parts=constructed(*_PARTS),
    records=constructed(*CALL_EVENT_NAMES),
    fields={
        name: (
            application(holder, is_constructed=True),
            application(number, is_constructed=False),
        )
        for name, (holder, number) in _FIELDS.items()
    },
    descend=constructed(*_HOLDERS),
    known=_both(tuple(n for first, last in _ASSIGNED for n in range(first, last + 1))),
)

NOTICE = Layout(
    what="TAP3 Notification",
    roots=constructed(NOTIFICATION),
    lists=frozenset(),
    parts=primitive(*HEADER_NUMBERS) | constructed(*HEADER_LISTS),
    records=frozenset(),
    fields={"none": (0, 0)},
    descend=frozenset(),
    known=frozenset(),
)
