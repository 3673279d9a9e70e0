"""The vendor's API over HTTP, served from the mirror, with its description and a page for people."""
