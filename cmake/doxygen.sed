# A header's first comment is the file's documentation; <word> stands for a word.
2s|^// |/// \\file\
/// |
3,/^$/s|^// |/// |
s|^( *///.*)<([a-z_]+)>|\1\&lt;\2\&gt;|g
