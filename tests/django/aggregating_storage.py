"""The storage of docs/django.md that rewrites the imports of modules."""

from __future__ import annotations

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage


class AggregatingStorage(ManifestStaticFilesStorage):
    support_js_module_import_aggregation = True
    max_post_process_passes = 20
