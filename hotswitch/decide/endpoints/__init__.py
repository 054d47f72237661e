"""Who gets a request: policies that turn a Service and its backends into what is published. Pure."""
