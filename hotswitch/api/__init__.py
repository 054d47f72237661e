"""What users and other programs write and read of hotswitch in the Kubernetes API: names, the policy, the status."""
