"""The vendor's API over HTTP, answered from the mirror, with its description and a page for people."""
