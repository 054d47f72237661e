"""Who gets a request, and how every data plane learns it: the registry of backends, probing, and the publishers."""
