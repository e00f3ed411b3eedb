"""Tag tables of the charging records of 3GPP TS 32.298 (Release 16), and how they become columns.

One module a domain. The tables are ours, made of tag numbers and element names; what an element
means is described in the clause beside each table.
"""
