"""Files of ECG devices, written here byte by byte from the formats' specifications."""

from __future__ import annotations

import base64
import binascii
import struct
import sys
import zlib

import numpy as np
import pytest

from ecg_mlflow.errors import ExtraMissingError, RecordError
from ecg_mlflow.records import read_digital
from ecg_mlflow.records.reading import Reading

pytest.importorskip("ecgdatakit", reason="the extra `formats` is not installed")
pydicom = pytest.importorskip("pydicom", reason="the extra `formats` is not installed")

LEADS = ("I", "II", "V1")
COUNTS = np.random.default_rng(0).integers(-500, 500, (200, 3))
MV = COUNTS * 0.005  # 5 uV a count


def crc16(data):
    return binascii.crc_hqx(data, 0xFFFF)


def aecg(scale="5", unit="uV", increment="0.002", counts=COUNTS):
    leads = "".join(
        f'<component><sequence><code code="MDC_ECG_LEAD_{name}"/><value xsi:type="SLIST_PQ">'
        f'<origin value="0" unit="{unit}"/><scale value="{scale}" unit="{unit}"/>'
        f"<digits>{' '.join(map(str, lead))}</digits></value></sequence></component>"
        for name, lead in zip(LEADS, counts.T, strict=True)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><AnnotatedECG xmlns="urn:hl7-org:v3" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><component><series>'
        '<code code="RHYTHM"/><component><sequenceSet><component><sequence>'
        '<code code="TIME_ABSOLUTE"/><value xsi:type="GLIST_TS">'
        f'<head value="20200101000000.000"/><increment value="{increment}" unit="s"/></value>'
        f"</sequence></component>{leads}</sequenceSet></component></series></component>"
        "</AnnotatedECG>"
    ).encode()


def muse(units=("5", "MICROVOLTS"), checksum=0):
    leads = "".join(
        f"<LeadData><LeadSampleCountTotal>200</LeadSampleCountTotal>"
        f"<LeadAmplitudeUnitsPerBit>{units[0]}</LeadAmplitudeUnitsPerBit>"
        f"<LeadAmplitudeUnits>{units[1]}</LeadAmplitudeUnits><LeadID>{name}</LeadID>"
        f"<LeadSampleSize>2</LeadSampleSize>"
        f"<LeadDataCRC32>{zlib.crc32(data) + checksum}</LeadDataCRC32>"
        f"<WaveFormData>{base64.b64encode(data).decode()}</WaveFormData></LeadData>"
        for name, data in zip(LEADS, [x.astype("<i2").tobytes() for x in COUNTS.T], strict=True)
    )
    return (
        "<?xml version='1.0' encoding='ISO-8859-1'?><RestingECG><Waveform>"
        "<WaveformType>Rhythm</WaveformType><SampleBase>500</SampleBase>"
        f"<SampleExponent>0</SampleExponent>{leads}</Waveform></RestingECG>"
    ).encode()


def ishne(n_samples=200):
    head = bytearray(512)
    struct.pack_into("<iiiih", head, 0, 0, n_samples, 522, 522, 1)
    struct.pack_into("<h12h12h12hh", head, 146, 3, *(5, 6, 11), *[-9] * 9, *[0] * 12,
                     *[5000] * 3, *[-9] * 9, 0)  # fmt: skip
    struct.pack_into("<h", head, 262, 500)
    samples = COUNTS.astype("<i2").tobytes()
    return b"ISHNE1.0" + struct.pack("<H", crc16(head)) + bytes(head) + samples


def scp(damage=0, interval_us=2000):
    def section(number, body):
        size = 16 + len(body)
        kept = b"SCPECG" if number == 0 else bytes(6)
        content = struct.pack("<HIBB", number, size, 20, 20) + kept + body
        return struct.pack("<H", crc16(content)) + content

    leads = b"".join(struct.pack("<IIB", 1, 200, code) for code in (1, 2, 3))
    data = [lead.astype("<i2").tobytes() for lead in COUNTS.T]
    bodies = {
        1: struct.pack("<BHB", 255, 0, 0),
        3: struct.pack("<BB", 3, 0b11100) + leads,
        6: struct.pack("<HHBB3H", 5000, interval_us, 0, 0, *map(len, data)) + b"".join(data),
    }
    sizes = {0: 16 + 12 * 10} | {number: 16 + len(body) for number, body in bodies.items()}
    table, place = b"", 7
    for number in range(12):
        size = sizes.get(number, 0)
        table += struct.pack("<HII", number, size, place if size else 0)
        place += size
    whole = section(0, table) + b"".join(section(number, body) for number, body in bodies.items())
    content = struct.pack("<I", 6 + len(whole)) + whole
    return struct.pack("<H", crc16(content) ^ damage) + content


def dicom(sensitivity="5", unit="uV", fs="500"):
    data_set = pydicom.Dataset()
    data_set.file_meta = pydicom.dataset.FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data_set.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.9.1.1"
    data_set.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data_set.SOPClassUID, data_set.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.3"
    wave = pydicom.Dataset()
    wave.NumberOfWaveformChannels, wave.NumberOfWaveformSamples = 3, 200
    wave.SamplingFrequency, wave.WaveformOriginality = fs, "ORIGINAL"
    wave.WaveformBitsAllocated, wave.WaveformSampleInterpretation = 16, "SS"
    wave.WaveformData = COUNTS.astype("<i2").tobytes()
    wave.ChannelDefinitionSequence = [pydicom.Dataset() for _ in LEADS]
    for k, channel in enumerate(wave.ChannelDefinitionSequence):
        source, units = pydicom.Dataset(), pydicom.Dataset()
        source.CodeValue, source.CodingSchemeDesignator = f"2:{k + 1}", "MDC"
        source.CodeMeaning = f"Lead {LEADS[k]}"
        units.CodeValue, units.CodingSchemeDesignator, units.CodeMeaning = unit, "UCUM", unit
        channel.ChannelSourceSequence, channel.WaveformBitsStored = [source], 16
        if sensitivity:
            channel.ChannelSensitivity, channel.ChannelBaseline = sensitivity, "0"
            channel.ChannelSensitivityCorrectionFactor = "1"
            channel.ChannelSensitivityUnitsSequence = [units]
    data_set.WaveformSequence = [wave]
    with pydicom.filebase.DicomBytesIO() as file:
        data_set.save_as(file, enforce_file_format=True)
        return file.getvalue()


FILES = {
    "hl7.xml": aecg(),
    "hl7_mv.xml": aecg("0.005", "mV"),
    "muse.xml": muse(),
    "muse_mv.xml": muse(("0.005", "MILLIVOLTS")),
    "holter.ecg": ishne(),
    "device.scp": scp(),
    "device.dcm": dicom(),
    "device_mv.dcm": dicom("0.005", "mV"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_in_millivolts(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    record = read_digital(path)
    assert (record.id, record.fs, record.leads) == (path.stem, 500, LEADS)
    assert record.samples.dtype == np.float32
    np.testing.assert_allclose(record.samples, MV, atol=1e-6)
    chosen = read_digital(path, Reading("v1"))
    assert (chosen.leads, len(chosen.ignored)) == (("v1",), 2)
    np.testing.assert_allclose(chosen.samples[:, 0], MV[:, 2], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.xml", aecg(increment="0.0039"), "doubtful file: a.xml: Sampling rate 256.4103 Hz is"),
        ("a.xml", aecg(unit="mmHg"), "unit is not a voltage|unreadable file|doubtful file"),
        ("a.xml", muse(checksum=1), "doubtful file: a.xml: CRC32 mismatch in lead I"),
        ("a.ecg", ishne()[:-300], "truncated or oversized file: a.ecg has 150 samples of 3 leads"),
        ("a.scp", scp(damage=1), "doubtful file: a.scp: SCP-ECG CRC mismatch"),
        ("a.scp", scp()[:-300], "file: a.scp: "),
        ("a.dcm", dicom()[:-300], "file: a.dcm: "),
        ("a.dcm", dicom(sensitivity=None), "doubtful file: a.dcm: "),
        *((f"a.{end}", b"hello", "unreadable file: a") for end in ("xml", "dcm", "scp", "ecg")),
        *((f"a.{end}", b"", "unreadable file: a") for end in ("xml", "dcm", "scp", "ecg")),
    ],
)
def test_files_that_are_refused(tmp_path, name, content, why):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RecordError, match=why):
        read_digital(path)


def test_frequencies_are_not_rounded(tmp_path):
    (tmp_path / "a.dcm").write_bytes(dicom(fs="257.3"))
    assert read_digital(tmp_path / "a.dcm").fs == 257.3
    (tmp_path / "a.scp").write_bytes(scp(interval_us=3900))
    assert read_digital(tmp_path / "a.scp").fs == pytest.approx(256.41, abs=0.01)


def test_no_ecgdatakit(tmp_path, monkeypatch):
    (tmp_path / "a.dcm").write_bytes(FILES["device.dcm"])
    monkeypatch.setitem(sys.modules, "ecgdatakit", None)
    with pytest.raises(ExtraMissingError, match=r"pip install 'ecg_mlflow\[formats\]'"):
        read_digital(tmp_path / "a.dcm")
