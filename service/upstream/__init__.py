"""The vendor: client, payload types, signature, request budget.

Odd JSON is read in four steps: `json_text` decodes it, `mending` repairs what is almost JSON, `fields.read_fields`
reads a record field by field, `records` reads a response with odd records.
"""
