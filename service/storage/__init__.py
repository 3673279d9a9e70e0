"""Tables and every SQL statement, one file for each subject, functions named by intent."""
