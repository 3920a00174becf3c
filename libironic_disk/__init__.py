"""libironic_disk: from a description, an image and a disk to a machine that boots.

The whole job is :func:`libironic_disk.deploy.deploy`. Its parts can be called by themselves, always in the order
observe, plan, apply: see :mod:`~libironic_disk.partitioner`, :mod:`~libironic_disk.images`,
:mod:`~libironic_disk.volumes`, :mod:`~libironic_disk.wholedisk`, :mod:`~libironic_disk.configdrive`,
:mod:`~libironic_disk.filesystems` and :mod:`~libironic_disk.grub`. Several systems on one disk are
:mod:`~libironic_disk.multiboot`, :mod:`~libironic_disk.switching` and :mod:`~libironic_disk.bootinfo`. Boot ISOs are
:mod:`~libironic_disk.bootiso`. Every error is a :class:`~libironic_disk.errors.DiskError`.

What is named here is the public interface, and so is what the modules above name; everything else may change.
"""

from libironic_disk import (
    bootinfo,
    bootiso,
    configdrive,
    deploy,
    filesystems,
    grub,
    images,
    multiboot,
    partitioner,
    switching,
    volumes,
    wholedisk,
)
from libironic_disk.configdrive import ConfigDrive, Metadata
from libironic_disk.deploy import DeployPlan
from libironic_disk.errors import DiskError, DiskState
from libironic_disk.events import (
    BytesMoved,
    Cancellation,
    Event,
    EventSink,
    Phase,
    PhaseFinished,
    PhaseStarted,
)
from libironic_disk.images import (
    Algorithm,
    Checksum,
    Engine,
    ImageFormat,
    ImageType,
    InspectedImage,
    Location,
    Proof,
    infer_image_type,
)
from libironic_disk.machine.disks.staging import StagedDisk
from libironic_disk.pure.boot.kernelparams import KernelParameters, ParameterChange
from libironic_disk.pure.disks.alignment import Alignment
from libironic_disk.pure.disks.documents import layout_from_json, layout_to_json, plan_from_json, plan_to_json
from libironic_disk.pure.disks.drawing import as_svg, as_text
from libironic_disk.pure.disks.facts import DiskFacts, DiskKind, Fingerprint, Identity, Signature, Topology
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.planning import Action, Existing, Plan, PlannedPartition
from libironic_disk.pure.disks.presets import ironic_layout
from libironic_disk.pure.disks.sizes import Exact, Percent, Remaining, mib, parse_size
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.report import DeployedPartition, DeployResult
from libironic_disk.pure.roles import Architecture, Attribute, Firmware, Role
from libironic_disk.pure.tables.model import Extent, FoundPartition, FoundTable, TableKind
from libironic_disk.pure.volumes.facts import StorageFacts
from libironic_disk.pure.volumes.planning import StoragePlan
from libironic_disk.pure.volumes.storage import ArrayMetadata, ArraySpec, GroupSpec, Storage, VolumeSpec
from libironic_disk.request import BootLoader, DeployRequest, FirmwareEntry
from libironic_disk.wholedisk import WholeDiskPlan, WholeDiskWritten

__all__ = [
    "Action",
    "Algorithm",
    "Alignment",
    "Architecture",
    "ArrayMetadata",
    "ArraySpec",
    "Attribute",
    "BootLoader",
    "ByteRange",
    "BytesMoved",
    "Cancellation",
    "Checksum",
    "ConfigDrive",
    "DeployPlan",
    "DeployRequest",
    "DeployResult",
    "DeployedPartition",
    "DiskError",
    "DiskFacts",
    "DiskKind",
    "DiskState",
    "Engine",
    "Event",
    "EventSink",
    "Exact",
    "Existing",
    "Extent",
    "FileSystem",
    "Fingerprint",
    "Firmware",
    "FirmwareEntry",
    "FoundPartition",
    "FoundTable",
    "GroupSpec",
    "Identity",
    "ImageFormat",
    "ImageType",
    "InspectedImage",
    "KernelParameters",
    "Layout",
    "Location",
    "Metadata",
    "ParameterChange",
    "PartitionSpec",
    "Percent",
    "Phase",
    "PhaseFinished",
    "PhaseStarted",
    "Plan",
    "PlannedPartition",
    "Proof",
    "Remaining",
    "Role",
    "Signature",
    "StagedDisk",
    "Storage",
    "StorageFacts",
    "StoragePlan",
    "TableKind",
    "Topology",
    "VolumeSpec",
    "WholeDiskPlan",
    "WholeDiskWritten",
    "as_svg",
    "as_text",
    "bootinfo",
    "bootiso",
    "configdrive",
    "deploy",
    "filesystems",
    "grub",
    "images",
    "infer_image_type",
    "ironic_layout",
    "layout_from_json",
    "layout_to_json",
    "mib",
    "multiboot",
    "parse_size",
    "partitioner",
    "plan_from_json",
    "plan_to_json",
    "switching",
    "volumes",
    "wholedisk",
]
