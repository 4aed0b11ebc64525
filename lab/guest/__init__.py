"""The lab's protected machines: real Debian systems on disks that are made here from nothing."""
