"""Label Studio's machine learning backend API and its webhook: masks out, tagged photos in."""
