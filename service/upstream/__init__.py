"""The vendor: client, payload types, signature, request budget.

Odd JSON is read in three steps: `json_text` decodes it, `fields.read_fields` reads a record field by field, `records`
reads a response with odd records.
"""
