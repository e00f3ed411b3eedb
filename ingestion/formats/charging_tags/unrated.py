"""Records that are recognised and not decoded: nothing a subscriber pays for comes of them.

Names and numbers of TS 32.298 clause 5.2; what each records is in the clause of its domain. Some
numbers stand for two kinds of record, told apart by the recordType in them.
"""

from __future__ import annotations

from ingestion.formats.charging_kinds import Kind

# What other domains use the same outermost tag for: recordType -> name.
OTHERS_OF_20 = {87: "mSCsRVCCRecord"}
OTHERS_OF_78 = {78: "sUBBMSCRecord"}
OTHERS_OF_79 = {79: "cONTENTBMSCRecord"}

KINDS = (
    # Circuit switched domain: clause 5.2.2.1.
    Kind("roamingRecord", 2),
    Kind("incGatewayRecord", 3),
    Kind("outGatewayRecord", 4),
    Kind("transitRecord", 5),
    Kind("moSMSIWRecord", 8),
    Kind("mtSMSGWRecord", 9),
    Kind("ssActionRecord", 10),
    Kind("hlrIntRecord", 11),
    Kind("locUpdateHLRRecord", 12),
    Kind("locUpdateVLRRecord", 13),
    Kind("commonEquipRecord", 14),
    Kind("recTypeExtensions", 15),
    Kind("termCAMELRecord", 16),
    Kind("mtLCSRecord", 17),
    Kind("moLCSRecord", 18),
    Kind("niLCSRecord", 19),
    Kind("mMTRFRecord", 21),
    # Packet switched domain: clause 5.2.2.2.
    Kind("sgsnMMRecord", 22, namesakes={99: "iCSRegisterRecord"}),
    Kind("sgsnMTLCSRecord", 25),
    Kind("sgsnMOLCSRecord", 26),
    Kind("sgsnNILCSRecord", 27),
    Kind("sgsnMBMSRecord", 76),
    Kind("ggsnMBMSRecord", 77),
    Kind("gwMBMSRecord", 86),
    Kind("tDFRecord", 92),
    Kind("iPERecord", 95),
    # Multimedia messages between relays, applications and mailboxes: clause 5.2.4.1.
    *(
        Kind(name, tag)
        for tag, name in {
            31: "mMO4FRqRecord", 32: "mMO4FRsRecord", 33: "mMO4DRecord", 34: "mMO1DRecord",
            35: "mMO4RRecord", 36: "mMO1RRecord", 37: "mMOMDRecord", 38: "mMR4FRecord",
            39: "mMR1NRqRecord", 40: "mMR1NRsRecord", 42: "mMR1ARecord", 43: "mMR4DRqRecord",
            44: "mMR4DRsRecord", 45: "mMR1RRRecord", 46: "mMR4RRqRecord", 47: "mMR4RRsRecord",
            48: "mMRMDRecord", 50: "mMBx1SRecord", 51: "mMBx1VRecord", 52: "mMBx1URecord",
            53: "mMBx1DRecord", 54: "mM7SRecord", 55: "mM7DRqRecord", 56: "mM7DRsRecord",
            57: "mM7CRecord", 58: "mM7RRecord", 59: "mM7DRRqRecord", 60: "mM7DRRsRecord",
            61: "mM7RRqRecord", 62: "mM7RRsRecord",
        }.items()
    ),
    # IP multimedia subsystem, nodes on the way: clause 5.2.3.1.
    Kind("pCSCFRecord", 64),
    Kind("iCSCFRecord", 65),
    Kind("mRFCRecord", 66),
    Kind("mGCFRecord", 67),
    Kind("bGCFRecord", 68),
    Kind("eCSCFRecord", 70),
    Kind("iBCFRecord", 82),
    Kind("tRFRecord", 89),
    Kind("tFRecord", 90),
    Kind("aTCFRecord", 91),
    # Services: location, push to talk, device triggers, proximity, exposure: clause 5.2.4.
    Kind("lCSGMORecord", 71),
    Kind("lCSRGMTRecord", 72),
    Kind("lCSHGMTRecord", 73),
    Kind("lCSVGMTRecord", 74),
    Kind("lCSGNIRecord", 75),
    Kind("pPFRecord", 80),
    Kind("cPFRecord", 81),
    Kind("pFDDRecord", 100),
    Kind("pFEDRecord", 101),
    Kind("pFDCRecord", 102),
    Kind("mECORecord", 103),
    Kind("mERERecord", 104),
    Kind("cPDTSCERecord", 105),
    Kind("cPDTSNNRecord", 106),
    Kind("sCDVTT4Record", 110),
    Kind("sCSMOT4Record", 111),
    Kind("eASCERecord", 120),
)  # fmt: skip
