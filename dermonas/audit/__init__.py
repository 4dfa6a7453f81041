"""Does the score mean anything? The rank-correlation audit and the robustness study."""
