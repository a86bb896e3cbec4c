"""The nouns of the Paimon specification as frozen values and their JSON. No IO."""
