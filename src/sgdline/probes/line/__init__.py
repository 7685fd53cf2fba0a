"""The line probe: losses along theta_t + s*d_t, d_t = -m_t/||m_t||, s a Euclidean length."""
