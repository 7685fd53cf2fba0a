"""Published numbers of curious: none. Figures, tables and settings of the paper are not at hand (papers.md 3.1)."""

from __future__ import annotations

from sgdline.claims.judging.summary import Published

PUBLISHED: tuple[Published, ...] = ()
