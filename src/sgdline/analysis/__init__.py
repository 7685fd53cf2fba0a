"""From tables to tables: curves, fits, metrics, distances and claims (no torch)."""

from sgdline.analysis.claims import Claim as Claim
from sgdline.analysis.claims import RunTables as RunTables
from sgdline.analysis.claims import aggregate_claims as aggregate_claims
from sgdline.analysis.claims import run_claims as run_claims
from sgdline.analysis.curves import LineCurves as LineCurves
from sgdline.analysis.curves import LineMinima as LineMinima
from sgdline.analysis.curves import chunk_curves as chunk_curves
from sgdline.analysis.curves import common_grid as common_grid
from sgdline.analysis.distances import curve_distances as curve_distances
from sgdline.analysis.distances import measure_distances as measure_distances
from sgdline.analysis.fits import PolynomialFit as PolynomialFit
from sgdline.analysis.fits import fit_lines as fit_lines
from sgdline.analysis.fits import fit_polynomial as fit_polynomial
from sgdline.analysis.metrics import measure_lines as measure_lines
