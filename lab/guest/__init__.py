"""The lab's protected machines: real Debian systems on disks built from scratch."""
