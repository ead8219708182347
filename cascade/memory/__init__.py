"""May an answer that was given once be given again? To whom, and how sure must one be."""
