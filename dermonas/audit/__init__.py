"""Does the score mean anything? The rank-correlation audit, the robustness study, and the reporting checklist."""
