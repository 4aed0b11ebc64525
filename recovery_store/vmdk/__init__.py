"""The VMDK file format: layout, reader, writer, merge."""
