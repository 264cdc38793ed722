"""What can be guaranteed of an ensemble at a few times; it is public, as `ni.certificate`."""

from ntkinfo.information import Certificate, certificate

__all__ = ["Certificate", "certificate"]
