"""What the quadratic model needs: eigenvalues of the Hessian, and the gradient noise along them."""
