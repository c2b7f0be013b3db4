"""What a component is: its text form, the files it reads, the seven kinds, and a case."""
