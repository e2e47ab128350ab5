"""The actions of agents: discrete encodings and distributions."""
