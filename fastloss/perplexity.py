def perplexity(): pass
class Perplexity: pass
