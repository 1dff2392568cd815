"""DICOM files for tests, written with pydicom and highdicom alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RTStructureSetStorage,
    generate_uid,
)

IDENTITY = {
    "series_instance_uid": generate_uid(), "series_number": 2, "sop_instance_uid": generate_uid(), "instance_number": 1,
    "manufacturer": "none", "manufacturer_model_name": "none", "software_versions": "1", "device_serial_number": "1",
}  # fmt: skip
"""What a segmentation says of itself."""
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass
class Scan:
    """An image whose files are to be written. The affine is from (column, row, slice) to mm, RAS+."""

    values: np.ndarray
    affine: np.ndarray
    modality: str = "CT"
    description: str = "abdomen"
    slope: float = 1.0
    intercept: float = -1024.0
    extra: dict[str, Any] = field(default_factory=dict)
    study: str = field(default_factory=generate_uid)
    series: str = field(default_factory=generate_uid)
    frame_of_reference: str = field(default_factory=generate_uid)

    def slices(self) -> list[Dataset]:
        """Every slice as a dataset; the last one of the volume comes first, as many archives sort."""
        return [self._slice(n) for n in reversed(range(self.values.shape[2]))]

    def write(self, folder: Path) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for n, one in enumerate(self.slices()):
            paths.append(folder / f"{self.series[-6:]}-{n:03d}")  # as scanners do: no .dcm
            one.save_as(paths[-1], enforce_file_format=True)
        return paths

    def _slice(self, n: int) -> Dataset:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.SOPClassUID = CTImageStorage if self.modality == "CT" else MRImageStorage
        ds.SOPInstanceUID = generate_uid()
        ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = (
            ds.SOPClassUID,
            ds.SOPInstanceUID,
        )
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "1", "Some^One", "19700101", "O"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = self.study, self.series
        ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = self.frame_of_reference, ""
        ds.StudyID, ds.SeriesNumber, ds.InstanceNumber, ds.AccessionNumber = "1", 1, n + 1, ""
        ds.StudyDate, ds.StudyTime, ds.ReferringPhysicianName = "20200101", "120000", ""
        ds.Manufacturer, ds.Modality, ds.SeriesDescription = "none", self.modality, self.description
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        lps = RAS_TO_LPS @ self.affine
        spacing = np.linalg.norm(lps[:3, :2], axis=0)
        ds.PixelSpacing = [repr(round(float(spacing[1]), 8)), repr(round(float(spacing[0]), 8))]
        directions = (lps[:3, :2] / spacing).T.ravel()
        ds.ImageOrientationPatient = [f"{one:.10f}"[:16] for one in directions]
        position = lps @ [0, 0, n, 1]
        ds.ImagePositionPatient = [f"{one:.6f}"[:16] for one in position[:3]]
        ds.SliceThickness = repr(round(float(abs(np.cross(directions[:3], directions[3:]) @ lps[:3, 2])), 6))
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        plane = self.values[:, :, n].T
        ds.Rows, ds.Columns = plane.shape
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation = 15, int(self.values.dtype.kind == "i")
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = str(self.slope), str(self.intercept), "HU"
        ds.PixelData = np.ascontiguousarray(plane).tobytes()
        for keyword, value in self.extra.items():
            setattr(ds, keyword, value(n) if callable(value) else value)
        return ds


def multi_frame(scan: Scan) -> Dataset:
    """The same CT as one file with many frames."""
    return LegacyConvertedEnhancedCTImage(scan.slices(), generate_uid(), 7, generate_uid(), 1)


def segmentation(scan: Scan, masks: dict[str, np.ndarray], kind: str = "BINARY") -> Dataset:
    """A DICOM SEG of the slices of a scan; masks (columns, rows, slices) by name, empty frames are left out."""
    sources = sorted(scan.slices(), key=lambda one: one.InstanceNumber)
    stack = np.stack([mask.transpose(2, 1, 0) for mask in masks.values()], -1)
    described = [
        highdicom.seg.SegmentDescription(
            number, name, codes.SCT.Organ, codes.SCT.Liver, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number, name in enumerate(masks, 1)
    ]
    pixels = stack.astype(np.uint8) if kind != "FRACTIONAL" else stack.astype(np.float32) * 0.9
    return highdicom.seg.Segmentation(
        sources, pixels, kind, described, **IDENTITY,
        omit_empty_frames=True, series_description="organs",
    )  # fmt: skip


def contours(scan: Scan, drawn: dict[str, list[tuple[int, np.ndarray]]]) -> Dataset:
    """An RTSTRUCT: for each name closed contours, each the number of its slice and points (n, 2) of column and row."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.SOPClassUID, ds.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.Modality, ds.SeriesDescription = "RTSTRUCT", "contours of a doctor"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = scan.study, generate_uid()
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    lps = RAS_TO_LPS @ scan.affine
    for number, (name, pieces) in enumerate(drawn.items(), 1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, scan.frame_of_reference
        ds.StructureSetROISequence.append(roi)
        held = Dataset()
        held.ReferencedROINumber, held.ContourSequence = number, []
        for n, points in pieces:
            one = Dataset()
            one.ContourGeometricType, one.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            places = lps @ np.c_[points, np.full(len(points), n), np.ones(len(points))].T
            one.ContourData = [f"{value:.4f}"[:16] for value in places[:3].T.ravel()]
            held.ContourSequence.append(one)
        ds.ROIContourSequence.append(held)
    return ds


def save(dataset: Dataset, path: Path) -> Path:
    """Write a dataset as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path
