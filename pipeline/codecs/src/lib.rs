//! GStreamer codecs behind the pipeline's traits
