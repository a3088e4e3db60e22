"""Around the reading: DICOM reports, pages, batches and a service."""
