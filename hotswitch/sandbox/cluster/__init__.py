"""The node side of the embedded cluster: sandbox pods as API pods, a kubelet, an endpoints controller and istiod."""
