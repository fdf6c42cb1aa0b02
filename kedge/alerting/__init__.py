"""Rules, judgement and lifecycle: numbers in, transitions out. Pure but for the loading of rule files."""
