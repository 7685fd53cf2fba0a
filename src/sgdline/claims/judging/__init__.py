"""How claims are judged: what was measured, verdicts, pages, and the job."""
