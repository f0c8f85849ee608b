from django.contrib import admin

from .models import Note, Upload


@admin.register(Note)
class NoteAdmin(admin.ModelAdmin):
    list_display = ["author", "text", "created"]
    search_fields = ["author", "text"]
    list_filter = ["created"]


@admin.register(Upload)
class UploadAdmin(admin.ModelAdmin):
    list_display = ["file", "size", "sha256", "created"]
    readonly_fields = ["file", "size", "sha256"]

    def has_add_permission(self, request):
        return False  # The page /upload/ adds uploads, with size and checksum.
