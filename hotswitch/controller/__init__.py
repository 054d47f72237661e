"""The controller beside istiod: one picture of the mesh, one worker per pod, one leader (S4.1)."""
