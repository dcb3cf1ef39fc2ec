"""The parts of the report's sections: tables, figures, texts."""
