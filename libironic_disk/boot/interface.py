"""The base class of everything that boots machines (specification "Boot Interface in Ironic").

An implementation of somebody else's needs this class and nothing more of the package. Whatever it prepares, it must be
able to prepare again: a controller that was restarted, or has taken a machine over from another, calls the same methods
with the same task. Cleaning up twice, or what never was prepared, is no error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from libironic_disk.pure.netboot.prepared import Prepared
from libironic_disk.pure.netboot.task import BootTask


class BootInterface(ABC):
    """How one kind of machine is made to boot a RAM disk, and then its instance."""

    @abstractmethod
    def get_properties(self) -> Mapping[str, str]:
        """Return what a task may or must have for this interface: names, and what each is for."""

    @abstractmethod
    def validate(self, task: BootTask) -> None:
        """Check, without changing anything, that what the task asks for could be prepared.

        Raises:
            MissingParameterValue: the task lacks something; ``names`` has all that is missing.
            InvalidParameterValue: something in it can't be used; ``problems`` has every defect.
        """

    @abstractmethod
    def prepare_ramdisk(self, task: BootTask, ramdisk_params: Mapping[str, str | None]) -> Prepared:
        """Make the next boot of the machine one of ``task.ramdisk``.

        Args:
            task: the machine and its RAM disk.
            ramdisk_params: kernel parameters beside those of the RAM disk, in this order: ``key=value``, or ``key``
                alone where the value is None.

        Raises:
            MissingParameterValue: as :meth:`validate`.
            InvalidParameterValue: as :meth:`validate`, and for parameters that can't be passed on.
            BootTaskBusy: somebody prepares or cleans up the same machine now, or another one has its address.
        """

    @abstractmethod
    def clean_up_ramdisk(self, task: BootTask) -> None:
        """Take back what :meth:`prepare_ramdisk` made, all or half of it; nothing to take back is no error.

        Raises:
            BootTaskBusy: somebody prepares or cleans up the same machine now.
        """

    @abstractmethod
    def prepare_instance(self, task: BootTask) -> Prepared:
        """Make the boots of the machine those of ``task.instance``.

        Raises:
            MissingParameterValue: as :meth:`validate`.
            InvalidParameterValue: as :meth:`validate`.
            BootTaskBusy: as :meth:`prepare_ramdisk`.
        """

    @abstractmethod
    def clean_up_instance(self, task: BootTask) -> None:
        """Take back what :meth:`prepare_instance` made, all or half of it; nothing to take back is no error.

        Raises:
            BootTaskBusy: somebody prepares or cleans up the same machine now.
        """
