"""The version of this software, as the Settings page and other cores are told it."""

VERSION = "0.1.0"
