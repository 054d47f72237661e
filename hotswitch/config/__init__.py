"""What users write, checked and typed: bad input gets a sentence that names field and value, and changes nothing."""
