"""A real Kubernetes for the lab: API server, controllers and kube-proxy, built from Debian's source package."""
