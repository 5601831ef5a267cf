"""The video appliance: a lecture goes in, a playable adaptive stream comes out."""

__version__ = "0.1.0"
