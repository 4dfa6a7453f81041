"""Heat maps: the exact CAM, Grad-CAM for any baseline, regions, faithfulness curves and figures."""
