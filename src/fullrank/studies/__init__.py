"""Studies: the papers' tables and figures, and questions of ours, as runs that one command makes, resumes and draws."""
