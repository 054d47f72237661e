"""The agents of this mesh, as their controller knows them (S4.2): who may speak, what each was given, what it says."""
