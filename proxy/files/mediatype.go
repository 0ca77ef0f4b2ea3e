package files

import (
	"path"
	"strings"
)

// MediaType returns the value of Content-Type for the name of a file; "" if the name does not say
// it. It depends on nothing of the host. Text is UTF-8.
func MediaType(name string) string { return mediaTypes[strings.ToLower(path.Ext(name))] }

const utf8 = "; charset=utf-8"

var mediaTypes = map[string]string{
	".html": "text/html" + utf8, ".htm": "text/html" + utf8, ".xhtml": "application/xhtml+xml",
	".css": "text/css" + utf8, ".js": "text/javascript" + utf8, ".mjs": "text/javascript" + utf8,
	".txt": "text/plain" + utf8, ".text": "text/plain" + utf8, ".log": "text/plain" + utf8, ".asc": "text/plain" + utf8,
	".md": "text/markdown" + utf8, ".csv": "text/csv" + utf8, ".tsv": "text/tab-separated-values" + utf8,
	".ics": "text/calendar" + utf8, ".vcf": "text/vcard" + utf8, ".vtt": "text/vtt" + utf8, ".srt": "text/plain" + utf8,
	".json": "application/json", ".map": "application/json", ".jsonld": "application/ld+json", ".geojson": "application/geo+json",
	".webmanifest": "application/manifest+json", ".xml": "application/xml", ".xsl": "application/xml", ".xsd": "application/xml",
	".rss": "application/rss+xml", ".atom": "application/atom+xml", ".yaml": "application/yaml", ".yml": "application/yaml",
	".toml": "application/toml", ".wasm": "application/wasm", ".pdf": "application/pdf", ".rtf": "application/rtf",

	".svg": "image/svg+xml", ".png": "image/png", ".apng": "image/apng", ".jpg": "image/jpeg", ".jpeg": "image/jpeg",
	".gif": "image/gif", ".webp": "image/webp", ".avif": "image/avif", ".jxl": "image/jxl", ".heic": "image/heic",
	".ico": "image/x-icon", ".bmp": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff",

	".woff": "font/woff", ".woff2": "font/woff2", ".ttf": "font/ttf", ".otf": "font/otf", ".ttc": "font/collection",
	".eot": "application/vnd.ms-fontobject",

	".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".aac": "audio/aac", ".ogg": "audio/ogg", ".oga": "audio/ogg",
	".opus": "audio/ogg", ".flac": "audio/flac", ".wav": "audio/wav", ".weba": "audio/webm", ".mid": "audio/midi",
	".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".ogv": "video/ogg", ".mov": "video/quicktime",
	".mkv": "video/matroska", ".avi": "video/x-msvideo", ".mpeg": "video/mpeg", ".mpg": "video/mpeg",
	".m3u8": "application/vnd.apple.mpegurl", ".mpd": "application/dash+xml", ".m4s": "video/iso.segment", ".ts": "video/mp2t",

	".zip": "application/zip", ".gz": "application/gzip", ".tgz": "application/gzip", ".zst": "application/zstd",
	".bz2": "application/x-bzip2", ".xz": "application/x-xz", ".7z": "application/x-7z-compressed", ".tar": "application/x-tar",
	".rar": "application/vnd.rar", ".jar": "application/java-archive", ".apk": "application/vnd.android.package-archive",
	".deb": "application/vnd.debian.binary-package", ".rpm": "application/x-rpm", ".iso": "application/x-iso9660-image",
	".epub": "application/epub+zip", ".odt": "application/vnd.oasis.opendocument.text",
	".ods":  "application/vnd.oasis.opendocument.spreadsheet",
	".odp":  "application/vnd.oasis.opendocument.presentation",
	".doc":  "application/msword",
	".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	".xls":  "application/vnd.ms-excel",
	".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	".ppt":  "application/vnd.ms-powerpoint",
	".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}
