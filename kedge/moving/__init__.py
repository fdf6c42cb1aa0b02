"""Moving in: rules of other tools, told as kedge's own. Text goes in; text and a report come out."""
