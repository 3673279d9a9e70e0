"""The vendor's API, answered from the mirror: what `service.web` speaks over HTTP and the command line prints."""
