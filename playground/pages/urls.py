"""Addresses of the HTML doors. `/presets/…`, `/runs/…` and `/s/…` are kept in people's bookmarks."""

from django.urls import path, re_path

from . import compare, presets, runs, share, sign_in

urlpatterns = [
    path("", compare.new, name="compare"),
    path("xray", compare.xray, name="xray"),
    path("sign-in", sign_in.sign_in, name="sign_in"),
    path("sign-out", sign_in.sign_out, name="sign_out"),
    path("presets", presets.index, name="presets"),
    path("presets/new", presets.new, name="preset_new"),
    path("presets/<uuid:preset_id>", compare.preset, name="preset"),
    path("presets/<uuid:preset_id>/v/<int:number>", compare.preset, name="preset_version"),
    path("presets/<uuid:preset_id>/versions", presets.versions, name="preset_versions"),
    path("presets/<uuid:preset_id>/save", presets.save, name="preset_save"),
    path("presets/<uuid:preset_id>/rename", presets.rename, name="preset_rename"),
    path("presets/<uuid:preset_id>/duplicate", presets.duplicate, name="preset_duplicate"),
    path("presets/<uuid:preset_id>/delete", presets.delete, name="preset_delete"),
    path("presets/<uuid:preset_id>/restore", presets.restore, name="preset_restore"),
    path("runs", runs.index, name="runs"),
    re_path("^runs/(?P<run_id>[0-9a-f]{32})$", compare.run, name="run"),
    re_path("^share/(?P<kind>preset|run)/(?P<id>[0-9a-f-]{32,36})$", share.dialog, name="share"),
    re_path("^share/(?P<kind>preset|run)/(?P<id>[0-9a-f-]{32,36})/revoke$", share.revoke, name="share_revoke"),
    path("s/<str:token>", compare.shared, name="shared"),
    path("s/<str:token>/copy", compare.copy_shared, name="shared_copy"),
]
