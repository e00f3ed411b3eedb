"""Packet records decoded by an independent ASN.1 library are what the simulator meant to write."""

from __future__ import annotations

import numpy as np
import pytest

from tollhouse.simulator import network, packet_files
from tollhouse.simulator.ber import integer, octets, tagged
from tollhouse.simulator.civil_time import Window
from tollhouse.simulator.delivery import deliver
from tollhouse.simulator.faults import inject
from tollhouse.simulator.population import populate
from tollhouse.simulator.traffic import generate

charging_data_records = pytest.importorskip("pycrate_asn1dir.CDR")


def unswapped(content: bytes) -> str:
    return "".join(f"{byte & 15:x}{byte >> 4:x}" for byte in content).rstrip("f")


def test_every_field_of_a_packet_file_decodes_to_the_record_behind_it() -> None:
    window = Window.of(cycle="2026-10", days=3, zone="Asia/Shanghai")
    population = populate(size=150, seed=5, window=window)
    traffic = generate(population, seed=5, window=window)
    delivery = deliver(traffic, seed=5, window=window)
    faulty = inject(traffic, delivery, population, seed=5, window=window)
    decoder = charging_data_records.GPRSChargingDataTypes.GPRSRecord
    parts = checked = 0
    for index, file in enumerate(faulty.files):
        if network.SOURCES[file.source].format != "3gpp_cdr" or file.is_truncated:
            continue
        rows = np.arange(faulty.begins[index], faulty.begins[index + 1])
        batch, fault = faulty.records.take(rows), faulty.fault[rows]
        content = packet_files.encode(file, batch, fault, population, window)
        at = 52
        for row in range(len(batch)):
            length = int.from_bytes(content[at : at + 2])
            record = content[at + 4 : at + 4 + length]
            at += 4 + length
            if fault[row]:
                continue
            decoder.from_ber(record)
            choice, values = decoder.get_val()
            assert choice == "pGWRecord"
            party = batch.party[row]
            times = batch.started[row] + np.array([0, batch.duration[row]])
            opened, ended = window.clock.reading(times) % 10**12
            [condition] = values["listOfServiceData"]
            assert values["recordType"] == 85
            assert unswapped(values["servedIMSI"]) == str(population.imsis[party])
            assert values["servedMSISDN"].hex()[:2] == "91"
            assert unswapped(values["servedMSISDN"][1:]) == str(population.msisdns[party])
            assert unswapped(values["servedIMEI"]) == f"{population.imeis[party]}01"
            assert values["p-GWAddress"] == (
                "iPBinaryAddress",
                ("iPBinV4Address", packet_files.gateway_address(file.source).packed),
            )
            assert values["chargingID"] == batch.reference[row]
            assert values["accessPointNameNI"] in ("3gnet", "uninet")
            assert values["recordOpeningTime"].hex() == f"{opened}2b0800"
            assert values["duration"] == batch.duration[row]
            assert values["causeForRecClosing"] == batch.cause[row]
            assert values.get("recordSequenceNumber", 0) == batch.part[row]
            assert values["servingNodePLMNIdentifier"] == bytes.fromhex("64f010")
            assert values["p-GWPLMNIdentifier"] == bytes.fromhex("64f010")
            assert values["rATType"] in (1, 6)
            assert condition["datavolumeFBCUplink"] == batch.uplink[row]
            assert condition["datavolumeFBCDownlink"] == batch.downlink[row]
            assert condition["timeOfReport"].hex() == f"{ended}2b0800"
            assert condition["ratingGroup"] in (1000, 2000, 3000, 32000)
            decoder.set_val((choice, values))
            assert decoder.to_ber() == record  # minimal lengths and integers
            parts += int(batch.part[row] > 0)
            checked += 1
    assert parts > 0
    assert checked > 300


@pytest.mark.parametrize(
    "value", [0, 1, 127, 128, 255, 256, 32_767, 32_768, 2**31 - 1, 2**31, 2**32, 2**40, 2**62]
)
def test_integers_take_the_fewest_octets_that_keep_them_positive(value: int) -> None:
    encoded = octets(integer(np.array([value, 5])))[:-1]
    assert int.from_bytes(encoded, signed=True) == value
    assert len(encoded) == value.bit_length() // 8 + 1


def test_lengths_from_128_octets_on_take_the_long_form() -> None:
    for size, head in ((127, b"\x80\x7f"), (128, b"\x80\x81\x80"), (255, b"\x80\x81\xff")):
        content = np.zeros((1, size), dtype=np.uint8)
        element = tagged(b"\x80", packet_files.ber.fixed(content))
        assert octets(element)[: len(head)] == head
        assert len(octets(element)) == len(head) + size == element.length[0]
